"""Training losses, one idea a file, pure functions of tensors."""
