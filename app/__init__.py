"""The web service: uploads in, softmax probabilities out. Models come from `model_store` and nowhere else."""
