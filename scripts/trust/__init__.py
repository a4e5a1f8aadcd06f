"""Long trials: what a run leaves when it is killed, when its files are damaged and when its configuration is wrong."""
