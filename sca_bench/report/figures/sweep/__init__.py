"""The figures of a sweep: what Optuna's own show, in this report's style."""
