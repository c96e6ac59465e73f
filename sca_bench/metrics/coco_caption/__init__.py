"""The COCO caption metrics: CIDEr-D, BLEU, ROUGE-L, METEOR, SPICE."""
