"""The kubectl plugin: plan experiments, run them on one machine, look after them on a cluster."""
