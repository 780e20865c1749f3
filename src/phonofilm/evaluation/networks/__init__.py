"""The networks of the metrics in plain torch: the published files' tensor names and shapes, and no metric logic."""
