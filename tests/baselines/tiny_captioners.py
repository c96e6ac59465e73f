"""Untrained tiny captioners of transformers' real classes, saved as transformers saves them."""

from baselines.sam_captioner.recipe import Recipe

KINDS = ("git", "blip", "blip2")
SPREAD = Recipe(init_std=0.25, seed=3)
"""Untrained weights wide enough that captions differ from image to image."""


def save_as_published(captioner, kind, folder):
    """Write a captioner the way its authors did: model and processor by the library's classes."""
    # Seconds to import, for processors of pictures; every test process collects this file.
    from transformers import Blip2Processor, BlipProcessor, GitProcessor
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    captioner.architecture.model.save_pretrained(folder)
    if kind == "git":
        processor = GitProcessor(captioner.processor, captioner.tokenizer)
    elif kind == "blip":
        processor = BlipProcessor(captioner.processor, captioner.tokenizer)
    else:
        queries = captioner.architecture.num_placeholders
        processor = Blip2Processor(captioner.processor, captioner.tokenizer, queries)
    processor.save_pretrained(folder)
