"""The device: engine, filters, runtime, store, learner."""
