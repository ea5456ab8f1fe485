"""The cloud worker: decodes features, answers with logits."""
