# Writes study_statistics.json: R -f study_statistics.R --args FILE. Needs pROC and survival.
suppressMessages({library(pROC); library(survival)})
set.seed(20)
n <- 300
x <- rnorm(n, -0.5, 1.3)
y <- rbinom(n, 1, plogis(0.2 + 0.7 * x + 0.12 * x^2))
p <- round(plogis(x), 4)
class <- as.integer(cut(x + rnorm(n), c(-Inf, -1, 0.6, Inf))) - 1L
score <- round(x + rnorm(n, 0, 0.5), 2)

# flexible calibration: logistic regression on a restricted cubic spline with 4 knots
l <- qlogis(p)
k <- quantile(l, c(0.05, 0.35, 0.65, 0.95), names = FALSE)
cube <- function(a) pmax(l - a, 0)^3
term <- function(j) (cube(k[j]) - cube(k[3]) * (k[4] - k[j]) / (k[4] - k[3]) +
  cube(k[4]) * (k[3] - k[j]) / (k[4] - k[3]))
fit <- glm(y ~ l + term(1) + term(2), family = binomial, control = glm.control(epsilon = 1e-14, maxit = 100))
gap <- abs(fitted(fit) - p)
# ordinal concordance
ordinal <- concordance(class ~ score)
# areas
curve <- roc(y, score, levels = c(0, 1), direction = "<", quiet = TRUE)
part <- auc(curve, partial.auc = c(1, 0.8), partial.auc.focus = "specificity", partial.auc.correct = TRUE)
a <- as.numeric(auc(curve))
v <- var(curve, method = "delong")
logit <- plogis(qlogis(a) + c(-1, 1) * qnorm(0.975) * sqrt(v) / (a * (1 - a)))
# two areas of independent subgroups: Wald chi-square
half <- seq_len(n) <= 140
first <- roc(y[half], score[half], levels = c(0, 1), direction = "<", quiet = TRUE)
second <- roc(y[!half], score[!half], levels = c(0, 1), direction = "<", quiet = TRUE)
v1 <- var(first, method = "delong"); v2 <- var(second, method = "delong")
z2 <- (as.numeric(auc(first)) - as.numeric(auc(second)))^2 / (v1 + v2)

list_json <- function(v) paste0("[", paste(format(v, digits = 12, trim = TRUE, scientific = FALSE), collapse = ", "), "]")
number <- function(v) format(as.numeric(v), digits = 15, scientific = FALSE)
lines <- c(
  '{',
  sprintf(' "made_by": "study_statistics.R, %s, pROC %s, survival %s",', R.version.string, packageVersion("pROC"), packageVersion("survival")),
  sprintf(' "y": %s,', list_json(y)), sprintf(' "p": %s,', list_json(p)),
  sprintf(' "class": %s,', list_json(class)), sprintf(' "score": %s,', list_json(score)),
  sprintf(' "ici": %s, "e50": %s, "e90": %s,', number(mean(gap)),
    number(quantile(gap, 0.5, type = 1)), number(quantile(gap, 0.9, type = 1))),
  sprintf(' "ordinal": %s,', number(ordinal$concordance)),
  sprintf(' "partial": %s,', number(part)),
  sprintf(' "auc": %s, "variance": %s, "logit": %s,', number(a), number(v), list_json(logit)),
  sprintf(' "subgroup_chi2": %s, "subgroup_first": 140, "subgroup_events": [%d, %d, %d, %d]', number(z2),
    sum(y[half]), sum(!y[half]), sum(y[!half]), sum(!y[!half])),
  '}')
writeLines(lines, commandArgs(TRUE)[1])
