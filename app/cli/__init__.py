"""The command line ``posemamba``."""
