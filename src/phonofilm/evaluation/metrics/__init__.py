"""One file per metric; what a metric is stands in evaluation/metric.py."""
