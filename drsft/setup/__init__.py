"""Makes a first configuration, ready to run, for a given data set, model and machine (`drsft init`)."""
