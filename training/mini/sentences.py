"""Sentences about facial actions: what each part of a face does in each apparent expression, in several wordings.

None names an expression, and none has a word of ``captions.HELD_OUT_STEMS``.
"""

from __future__ import annotations

REGIONS = ("brows", "eyes", "cheeks", "mouth")

# For each expression, how each part of the face moves, in several wordings.
SENTENCES: dict[str, dict[str, tuple[str, ...]]] = {
    "happiness": {
        "brows": (
            "The brow is loose and untroubled.",
            "The eyebrows rest lightly above bright eyes.",
            "The forehead stays smooth while the lower face lifts.",
        ),
        "eyes": (
            "Small creases fan out from the outer corners of the eyes.",
            "The eyes narrow to bright slits above lifted cheeks.",
            "The lower eyelids are pushed up by the cheeks.",
        ),
        "cheeks": (
            "The cheeks are raised and rounded.",
            "The cheeks bunch up towards the eyes.",
            "Dimples form beside the lifted corners of the mouth.",
        ),
        "mouth": (
            "The corners of the mouth are pulled up and back.",
            "The lips part in a broad grin that shows the upper teeth.",
            "The mouth is open as in laughter, with the teeth in view.",
        ),
    },
    "sadness": {
        "brows": (
            "The inner ends of the eyebrows are drawn up.",
            "The eyebrows slant down towards the temples.",
            "The brow is pinched upwards in the middle.",
        ),
        "eyes": (
            "The upper eyelids droop over a lowered gaze.",
            "The eyes are wet with tears and look down.",
            "The eyes are dull and half closed.",
        ),
        "cheeks": (
            "The cheeks hang slack and long.",
            "The cheeks are drawn, and the head is bowed.",
            "Tears run down the cheeks.",
        ),
        "mouth": (
            "The corners of the lips are pulled down.",
            "The lower lip pushes up and trembles.",
            "The chin is puckered beneath a drooping mouth.",
        ),
    },
    "neutral": {
        "brows": (
            "The eyebrows lie level and do not move.",
            "The forehead is flat and without a line.",
            "The brow is at rest.",
        ),
        "eyes": (
            "The eyelids are relaxed and the gaze is steady.",
            "The eyes look straight ahead, ordinarily open.",
            "The eyes are still, with no tension around them.",
        ),
        "cheeks": (
            "The cheeks are flat and at rest.",
            "No muscle of the cheeks or the nose is at work.",
            "The cheeks are smooth and the jaw is relaxed.",
        ),
        "mouth": (
            "The lips are lightly closed in a straight line.",
            "The mouth is shut and relaxed.",
            "The lips rest on each other without pressure.",
        ),
    },
    "anger": {
        "brows": (
            "The eyebrows are pulled down and together.",
            "Upright furrows stand between the lowered eyebrows.",
            "The heavy brow sinks and shades the eyes.",
        ),
        "eyes": (
            "The eyes glare from under the brow.",
            "The eyelids are tightened around a hard stare.",
            "The eyes are fixed in a piercing, threatening look.",
        ),
        "cheeks": (
            "The nostrils are flared.",
            "The jaw is clenched and its muscles stand out.",
            "The jaw is thrust forward.",
        ),
        "mouth": (
            "The lips are pressed into a thin, tight line.",
            "The mouth is squared in a shout.",
            "The teeth are bared and clenched.",
        ),
    },
    "surprise": {
        "brows": (
            "The eyebrows are arched high.",
            "Lines run across the forehead above lifted eyebrows.",
            "Both eyebrows shoot up in a curve.",
        ),
        "eyes": (
            "The eyes are wide open and round.",
            "The upper eyelids are lifted, and white shows above the iris.",
            "The eyes pop open.",
        ),
        "cheeks": (
            "The cheeks are drawn long by the falling jaw.",
            "The jaw drops loosely.",
            "The lower face goes slack and long.",
        ),
        "mouth": (
            "The mouth hangs open in an oval.",
            "The lips part into a round o.",
            "The mouth gapes without tension.",
        ),
    },
    "disgust": {
        "brows": (
            "The eyebrows are lowered over squeezed eyes.",
            "The brow is drawn down towards the wrinkled nose.",
            "The skin between the eyebrows is gathered above the nose.",
        ),
        "eyes": (
            "The eyes are squinted and turned away.",
            "The eyes are narrowed, with folds beneath them.",
            "The lower eyelids are pushed up by the wrinkled nose.",
        ),
        "cheeks": (
            "The bridge of the nose is wrinkled.",
            "The nose is crinkled and the nostrils are drawn up.",
            "Folds run from the nostrils down beside the mouth.",
        ),
        "mouth": (
            "The upper lip is raised and curled.",
            "The tongue is pushed out between the lips.",
            "The mouth twists as if at a bad taste.",
        ),
    },
    "fear": {
        "brows": (
            "The eyebrows are raised and drawn together.",
            "The lifted eyebrows are strained into a straight line.",
            "Short wrinkles crease the middle of the tensed forehead.",
        ),
        "eyes": (
            "The eyes stare wide with tense lower eyelids.",
            "The upper eyelids are lifted high over frozen eyes.",
            "The whites of the staring eyes show.",
        ),
        "cheeks": (
            "The face is stiff and drawn back.",
            "The chin is pulled in and the neck is taut.",
            "The cheeks are pale and tense.",
        ),
        "mouth": (
            "The lips are stretched sideways and tense.",
            "The mouth is pulled open as in a scream.",
            "The corners of the mouth are drawn back towards the ears.",
        ),
    },
}

# How a picture was taken; every value has a sentence, so that a picture can be described without a word about the face.
PICTURE_SENTENCES = {
    ("light", "normal"): "The light is even.",
    ("light", "dark"): "The picture is dark.",
    ("light", "bright"): "The picture is very bright.",
    ("tilt", "upright"): "The picture is upright.",
    ("tilt", "left"): "The picture is tilted to the left.",
    ("tilt", "right"): "The picture is tilted to the right.",
    ("zoom", "normal"): "The person is seen at medium distance.",
    ("zoom", "close"): "The person fills the frame.",
    ("zoom", "far"): "The person is small in the frame.",
    ("focus", "sharp"): "The picture is in focus.",
    ("focus", "blurred"): "The picture is out of focus.",
    ("grain", "clean"): "The picture is clean.",
    ("grain", "grainy"): "The picture is grainy.",
}
