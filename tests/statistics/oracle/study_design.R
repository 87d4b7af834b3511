# Writes study_design.json: R -f study_design.R --args FILE. Needs metafor; reads three_level.json in the same folder.
suppressMessages(library(metafor))
here <- dirname(commandArgs(TRUE)[1])
text <- paste(readLines(file.path(here, "three_level.json")), collapse = " ")
numbers <- function(name) {
  block <- sub(paste0('.*"', name, '": '), "", text)
  as.numeric(unlist(regmatches(block, gregexpr("[0-9]+", sub(' "[a-z]+":.*', "", block)))))
}
cells <- matrix(numbers("tables"), ncol = 4, byrow = TRUE)
study <- numbers("study")
bivariate <- function(rows, method, mods = ~ margin - 1, group = NULL) {
  x <- cells[rows, , drop = FALSE]
  if (any(x == 0)) x <- x + 0.5
  k <- nrow(x)
  d <- data.frame(study = rep(study[rows], 2), table = rep(seq_len(k), 2), margin = rep(c("a", "b"), each = k),
    y = c(log(x[, 1] / x[, 3]), log(x[, 4] / x[, 2])), v = c(1 / x[, 1] + 1 / x[, 3], 1 / x[, 4] + 1 / x[, 2]))
  if (!is.null(group)) d$group <- rep(group[rows], 2)
  rma.mv(y, v, mods = mods, random = ~ margin | table, struct = "UN", data = d, method = method,
    control = list(optimizer = "BFGS", reltol = 1e-15, maxit = 2000))
}
all <- seq_len(nrow(cells))
fit <- bivariate(all, "REML")
robust_fit <- robust(fit, cluster = study, adjust = FALSE)
g <- length(unique(study))
# two groups of tables: likelihood ratio of both margins
group <- ifelse(all %% 2 == 0, "x", "y")
null <- bivariate(all, "ML")
joint <- bivariate(all, "ML", ~ margin + margin:group - 1, group)
# few studies: one table of each of the first five
few <- match(1:5, study)
small <- bivariate(few, "REML")
# smallest n with Wilson's interval of a rate within a width
wilson_width <- function(n, rate, level) {
  z <- qnorm(0.5 + level / 2); 2 * z / (1 + z^2 / n) * sqrt(rate * (1 - rate) / n + z^2 / (4 * n^2))
}
smallest <- function(rate, width, level = 0.95) { n <- 2; while (wilson_width(n, rate, level) > width) n <- n + 1; n }
# unconditional power of McNemar's exact test
power <- function(n, b, c, alpha = 0.05) {
  total <- 0
  for (m in 1:n) {
    p <- dbinom(m, n, b + c); if (p < 1e-12) next
    k <- 0:m; tail <- 2 * pbinom(pmin(k, m - k), m, 0.5)
    total <- total + p * sum(dbinom(k, m, b / (b + c))[tail <= alpha])
  }
  total
}
list_json <- function(v) paste0("[", paste(format(as.numeric(v), digits = 12, trim = TRUE, scientific = FALSE), collapse = ", "), "]")
writeLines(c('{',
  sprintf(' "made_by": "study_design.R, %s, metafor %s",', R.version.string, packageVersion("metafor")),
  sprintf(' "clustered": %s,', list_json(c(fit$beta, sqrt(diag(vcov(robust_fit)) * g / (g - 1))))),
  sprintf(' "subgroup_chi2": %s,', format(as.numeric(2 * (logLik(joint) - logLik(null))), digits = 12)),
  sprintf(' "small": %s,', list_json(c(small$beta, small$se, small$tau2))),
  sprintf(' "small_tables": %s,', list_json(few - 1)),
  sprintf(' "rates": %s,', list_json(c(smallest(0.9, 0.1), smallest(0.95, 0.06), smallest(0.8, 0.2, 0.9)))),
  sprintf(' "mcnemar_power": %s', list_json(c(power(223, 0.1, 0.03), power(224, 0.1, 0.03), power(60, 0.2, 0.05)))),
  '}'), commandArgs(TRUE)[1])
