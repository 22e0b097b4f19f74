"""Rules of the options that several augmentations have."""

from jaxhw.options import Rule, at_least, each

ASCENDING = Rule("in ascending order", lambda values: values[0] <= values[1])
# Of random resized crops: the least and the largest share of the image's area.
AREA = each(Rule("above 0 and at most 1", lambda value: 0 < value <= 1), 2), ASCENDING
# Of colour jitter: brightness, contrast, saturation and hue, the last of which is a fraction of the colour circle.
JITTER = each(at_least(0), 4), Rule("with a hue of at most 0.5", lambda values: values[3] <= 0.5)
