"""The loss terms of a TopoEncoder: functions of tensors, and the table that registers them."""
