"""Grafana dashboards as data: what each panel asks of Prometheus, and what it answers to a person.

    python -m cpt_dashboards [--check]    writes helm/dashboards/*.json, or compares them

One file for each dashboard, and `grafana.py`, which alone knows Grafana's JSON. Nothing here is code of another part:
dashboards are made of names that the others publish, and tests hold every name and label against what is served.
"""
