"""The control plane: watches experiments and trials, plans, makes trials and jobs, and writes what became of them."""
