"""Edge and cloud together on labelled frames: what each filter, threshold and upload rate gives and costs."""
