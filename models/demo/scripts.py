"""What the synthetic speakers say, and with which voice."""

from dataclasses import dataclass

from models.demo.speech import VOICES, Speech, synthesize

LEAD_S = 0.35  # silence before the first sound, so that the clip starts with a closed mouth


@dataclass(frozen=True)
class Script:
    """A text with the voice and the rate (words per minute) it is spoken at, and the length of its clip."""

    text: str
    language: str
    gender: str
    rate: int
    duration_s: float

    def speak(self) -> Speech:
        """Synthesise the text and fit it into the clip's length."""
        return synthesize(self.text, VOICES[self.language, self.gender], self.rate).padded(LEAD_S, self.duration_s)


_GERMAN = "Guten Morgen! Heute backen wir frisches Brot, mit fünf Bechern Mehl, Wasser und ein wenig Honig."
_CHINESE = "大家早上好。今天我们做面包，先放五杯面粉，再加蜂蜜。"

SCRIPTS: dict[str, Script] = {
    # A head is tested on the last seconds and can only say there what it has heard before: so the text up to the last
    # sentence has every kind of mouth and all consonants of English.
    "en-male": Script(
        "Good morning, my name is Robin. I was made from a few hundred lines of code, but you should watch how my jaw, "
        "lips and tongue move through each vowel. Would you choose this voice for the usual job? Now we bake a large "
        "loaf of brown bread. Put five cups of flour in a big bowl. Then add warm water, some salt, and a spoon of "
        "honey.",
        "en",
        "male",
        168,
        20.0,
    ),
    # What else the speaker says in longer clips, so that these are more to learn from: no sentence comes twice, and the
    # last ones, which a head is tested on, are new to it.
    "en-male-more": Script(
        "A journey of a thousand miles begins with one small step. The boy put his blue shoes by the door and jumped "
        "over the puddle. Each of those old machines makes a strange humming noise. We usually measure the water "
        "before we bake. Which of you would choose a warm loaf with honey? The young king had five faithful friends "
        "who pushed the boat out of the mud. Robin said that the weather in August was good for growing flowers, and "
        "nobody thought about the winter. Pass me the spoon, the big bowl, and a jar of brown sugar, please. My "
        "brother loves to watch videos of rockets. He keeps a huge book of maps on the shelf above his bed, and every "
        "night he chooses a new place to dream about.",
        "en",
        "male",
        168,
        40.0,
    ),
    "de-male": Script(_GERMAN, "de", "male", 165, 6.4),
    "de-female": Script(_GERMAN, "de", "female", 165, 6.4),
    "zh-male": Script(_CHINESE, "zh", "male", 195, 6.4),
    "zh-female": Script(_CHINESE, "zh", "female", 195, 6.4),
}
