"""SDK: classify on the device, ask the cloud when unsure."""
