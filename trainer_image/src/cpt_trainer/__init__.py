"""The data plane: every verb of `cpt-trainer`. Nothing is imported here, so that light verbs start fast."""
