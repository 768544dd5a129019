"""From samples on benchmarks to scores with intervals and paired differences."""
