"""What concerns the whole process: logs, traces, memory, signals."""
