"""Dense captioning: mean average precision of boxes and captions found together."""
