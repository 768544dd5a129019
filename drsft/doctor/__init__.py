"""What `drsft doctor` checks: this machine, a store, a chat template, the losses."""
