"""Zero-shot evaluation of models on benchmarks: adapters, samples, scores with intervals, reports."""
