"""The one door to GPUs: no other module asks what a device is, or calls `torch.cuda`."""
