"""Learning on the device: whole data sets, labels one at a time, and what guards the head meanwhile."""
