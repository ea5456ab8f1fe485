"""What a model is: integer program, files, spikes as bits, frames."""
