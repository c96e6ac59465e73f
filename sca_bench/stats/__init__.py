"""The statistics of scores: pure functions over arrays, which know nothing of captions.

`bootstrap` resamples images, `variance` parts a score's variance into images and seeds, `compare`
gives intervals, `power` says what it would take to see a difference, `holm` adjusts families of
tests, `verdict` decides claims, `seeds` sums up seeds. numpy and scipy only.
"""
