"""Services for the whole process: logs, traces, memory, signals."""
