"""The process: wiring, settings, sockets, threads, logs and metrics."""
