# Writes three_level.json: R -f three_level.R --args FILE. Needs metafor and lme4.
suppressMessages({library(metafor); library(lme4)})
set.seed(26)
studies <- 24
per <- rep(1:3, length.out = studies)
study <- rep(seq_len(studies), per)
k <- length(study)
between <- matrix(c(0.36, -0.15, -0.15, 0.6), 2)
within <- matrix(c(0.25, 0.06, 0.06, 0.3), 2)
u <- matrix(rnorm(2 * studies), studies) %*% chol(between)
w <- matrix(rnorm(2 * k), k) %*% chol(within)
p <- plogis(matrix(c(2, 2.6), k, 2, byrow = TRUE) + u[study, ] + w)
diseased <- (40 + 10 * seq_len(studies))[study]
healthy <- (110 + 12 * seq_len(studies))[study]
tp <- rbinom(k, diseased, p[, 1]); tn <- rbinom(k, healthy, p[, 2])
fn <- diseased - tp; fp <- healthy - tn
half <- if (any(c(tp, fp, fn, tn) == 0)) 0.5 else 0

long <- data.frame(study = rep(study, 2), table = rep(seq_len(k), 2), margin = rep(c("a", "b"), each = k),
  y = c(log((tp + half) / (fn + half)), log((tn + half) / (fp + half))),
  v = c(1 / (tp + half) + 1 / (fn + half), 1 / (tn + half) + 1 / (fp + half)),
  events = c(tp, tn), total = c(diseased, healthy))
normal <- function(method) {
  fit <- rma.mv(y, v, mods = ~ margin - 1, random = list(~ margin | study, ~ margin | table), struct = c("UN", "UN"),
    data = long, method = method, control = list(optimizer = "BFGS", reltol = 1e-15, maxit = 2000))
  # metafor adds half of log |X'X| to the restricted likelihood
  extra <- if (method == "REML") determinant(crossprod(model.matrix(fit)))$modulus / 2 else 0
  c(fit$beta, fit$se, fit$tau2, fit$rho, fit$gamma2, fit$phi, logLik(fit) - extra)
}
laplace <- glmer(cbind(events, total - events) ~ 0 + margin + (0 + margin | study) + (0 + margin | table), data = long,
  family = binomial, control = glmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 1e5)))
s <- VarCorr(laplace)$study; t <- VarCorr(laplace)$table
exact <- c(fixef(laplace), sqrt(diag(as.matrix(vcov(laplace)))), diag(s), attr(s, "correlation")[1, 2], diag(t),
  attr(t, "correlation")[1, 2], logLik(laplace))

list_json <- function(v) paste0("[", paste(format(as.numeric(v), digits = 12, trim = TRUE, scientific = FALSE), collapse = ", "), "]")
rows <- apply(cbind(tp, fp, fn, tn), 1, list_json)
writeLines(c('{',
  sprintf(' "made_by": "three_level.R, %s, metafor %s, lme4 %s",', R.version.string, packageVersion("metafor"), packageVersion("lme4")),
  ' "values": "means (2), standard errors (2), variances between studies (2), correlation, variances within (2), correlation, log-likelihood",',
  sprintf(' "tables": [%s],', paste(rows, collapse = ", ")), sprintf(' "study": %s,', list_json(study)),
  sprintf(' "reml": %s,', list_json(normal("REML"))), sprintf(' "ml": %s,', list_json(normal("ML"))),
  sprintf(' "laplace": %s', list_json(exact)), '}'), commandArgs(TRUE)[1])
