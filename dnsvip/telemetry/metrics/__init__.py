"""Counters and states of a node as Prometheus metrics: read when they are asked for, from what is counted anyway."""
