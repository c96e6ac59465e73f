"""MLflow's mirror: what is written into it, by a process of its own that no run waits for."""
