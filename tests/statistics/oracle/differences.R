# Writes differences.json: R -f differences.R --args FILE. Needs no package beyond base and stats.
# No installed package has these intervals: they are written here from the published formulas.
set.seed(26)
n <- 260
truth <- rbinom(n, 1, 0.4)
shared <- rbinom(n, 1, 0.08)
first <- ifelse(runif(n) < 0.07, 1 - truth, truth)
second <- ifelse(runif(n) < 0.14, 1 - truth, truth)
first[shared == 1] <- 1 - truth[shared == 1]
second[shared == 1] <- 1 - truth[shared == 1]
half <- as.integer(seq_len(n) <= 110)
wilson <- function(x, n) {
  z <- qnorm(0.975); p <- x / n
  (p + z^2 / (2 * n) + c(-1, 1) * z * sqrt(p * (1 - p) / n + z^2 / (4 * n^2))) / (1 + z^2 / n)
}
stopifnot(all.equal(wilson(81, 100), as.numeric(prop.test(81, 100, correct = FALSE)$conf.int)))
# Newcombe 1998, Stat Med 17:2635: paired difference, method 10
paired <- function(x, y) {
  e <- sum(x & y); f <- sum(x & !y); g <- sum(!x & y); h <- sum(!x & !y); m <- e + f + g + h
  p1 <- (e + f) / m; p2 <- (e + g) / m; w1 <- wilson(e + f, m); w2 <- wilson(e + g, m)
  a <- e * h - f * g; a <- if (a > m / 2) a - m / 2 else if (a >= 0) 0 else a
  phi <- a / sqrt((e + f) * (g + h) * (e + g) * (f + h))
  low <- sqrt((p1 - w1[1])^2 - 2 * phi * (p1 - w1[1]) * (w2[2] - p2) + (w2[2] - p2)^2)
  high <- sqrt((w1[2] - p1)^2 - 2 * phi * (w1[2] - p1) * (p2 - w2[1]) + (p2 - w2[1])^2)
  c(p1 - p2, p1 - p2 - low, p1 - p2 + high, binom.test(f, f + g)$p.value)
}
# Newcombe 1998, Stat Med 17:873: independent difference, method 10
unpaired <- function(x, y) {
  p1 <- mean(x); p2 <- mean(y); w1 <- wilson(sum(x), length(x)); w2 <- wilson(sum(y), length(y))
  c(p1 - p2, p1 - p2 - sqrt((p1 - w1[1])^2 + (w2[2] - p2)^2), p1 - p2 + sqrt((w1[2] - p1)^2 + (p2 - w2[1])^2))
}
sick <- truth == 1
# predictive values of two tests, large sample: delta method on the eight multinomial shares
N <- 40000
t8 <- rbinom(N, 1, 0.3); s8 <- rbinom(N, 1, 0.1)
a8 <- ifelse(s8 == 1 | runif(N) < 0.05, 1 - t8, t8); b8 <- ifelse(s8 == 1 | runif(N) < 0.15, 1 - t8, t8)
counts <- table(factor(t8, 0:1), factor(a8, 0:1), factor(b8, 0:1))
cells <- expand.grid(t = 0:1, a = 0:1, b = 0:1)
share <- as.numeric(counts) / N
delta <- function(keep_a, keep_b, event) {
  pa <- sum(share[keep_a & event]) / sum(share[keep_a]); pb <- sum(share[keep_b & event]) / sum(share[keep_b])
  gradient <- keep_a * (event - pa) / sum(share[keep_a]) - keep_b * (event - pb) / sum(share[keep_b])
  se <- sqrt(sum(share * gradient^2) / N)
  c(pa - pb, pa - pb - qnorm(0.975) * se, pa - pb + qnorm(0.975) * se)
}
ppv <- delta(cells$a == 1, cells$b == 1, cells$t == 1)
npv <- delta(cells$a == 0, cells$b == 0, cells$t == 0)
# ordinal concordance of three classes: areas of pairs of classes and their DeLong components
m <- 150
class <- as.integer(cut(rnorm(m), c(-Inf, -0.3, 0.6, Inf))) - 1L
score <- round(class + rnorm(m, 0, 1.2), 1)
psi <- function(x, y) outer(x, y, function(a, b) (a > b) + 0.5 * (a == b))
by_class <- split(score, class); size <- lengths(by_class)
pairs <- list(c(1, 2), c(1, 3), c(2, 3))
weight <- sapply(pairs, function(k) size[k[1]] * size[k[2]]); weight <- weight / sum(weight)
value <- sum(weight * sapply(pairs, function(k) mean(psi(by_class[[k[2]]], by_class[[k[1]]]))))
# variance: for each class the sample variance of the sum of its weighted components over its size (DeLong 1988)
component <- lapply(by_class, function(x) numeric(length(x)))
for (j in seq_along(pairs)) {
  k <- pairs[[j]]; p <- psi(by_class[[k[2]]], by_class[[k[1]]])
  component[[k[2]]] <- component[[k[2]]] + weight[j] * rowMeans(p)
  component[[k[1]]] <- component[[k[1]]] + weight[j] * colMeans(p)
}
variance <- sum(sapply(component, var) / size)
# sample sizes: areas (Hanley and McNeil 1982, 1983), non-inferiority of paired rates, calibration (Riley 2021)
v <- function(a, m, n) (a * (1 - a) + (m - 1) * (a / (2 - a) - a^2) + (n - 1) * (2 * a^2 / (1 + a) - a^2)) / (m * n)
first_n <- function(enough) { k <- 2; while (!enough(k)) k <- k + 1; k }
area <- first_n(function(k) 2 * qnorm(0.975) * sqrt(v(0.85, k, 2 * k)) <= 0.1)
z <- qnorm(0.975) + qnorm(0.8)
areas <- first_n(function(k) {
  s <- v(0.8, k, k) + v(0.88, k, k) - 2 * 0.4 * sqrt(v(0.8, k, k) * v(0.88, k, k)); z * sqrt(s) <= 0.08
})
margin <- ceiling(z^2 * (0.12 - 0.02^2) / (0.05 - 0.02)^2)
prevalence <- 0.2; d <- sqrt(2) * qnorm(0.8)
moment <- function(power) {
  one <- function(share, sign) {
    integrate(function(u) {
      l <- qlogis(prevalence) + sign * d^2 / 2 + d * u; q <- plogis(l)
      share * dnorm(u) * q * (1 - q) * l^power
    }, -8, 8, rel.tol = 1e-10)$value
  }
  one(prevalence, 1) + one(1 - prevalence, -1)
}
i <- sapply(0:2, moment)
slope <- ceiling(i[1] / (i[1] * i[3] - i[2]^2) * (2 * qnorm(0.975) / 0.3)^2)

list_json <- function(v) paste0("[", paste(format(as.numeric(v), digits = 12, trim = TRUE, scientific = FALSE), collapse = ", "), "]")
writeLines(c('{',
  sprintf(' "made_by": "differences.R, %s",', R.version.string),
  sprintf(' "truth": %s,', list_json(truth)), sprintf(' "first": %s,', list_json(first)),
  sprintf(' "second": %s,', list_json(second)), sprintf(' "half": %s,', list_json(half)),
  sprintf(' "sensitivity": %s,', list_json(paired(first[sick] == 1, second[sick] == 1))),
  sprintf(' "specificity": %s,', list_json(paired(first[!sick] == 0, second[!sick] == 0))),
  sprintf(' "unpaired_sensitivity": %s,', list_json(unpaired(first[sick & half == 1], first[sick & half == 0]))),
  sprintf(' "unpaired_specificity": %s,', list_json(unpaired(1 - first[!sick & half == 1], 1 - first[!sick & half == 0]))),
  sprintf(' "large_counts": %s,', list_json(counts)),
  sprintf(' "large_ppv": %s, "large_npv": %s,', list_json(ppv), list_json(npv)),
  sprintf(' "class": %s,', list_json(class)), sprintf(' "score": %s,', list_json(score)),
  sprintf(' "ordinal": %s,', list_json(c(value, variance))),
  sprintf(' "sizes": %s', list_json(c(area, areas, margin, slope))),
  '}'), commandArgs(TRUE)[1])
