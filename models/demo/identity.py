"""Who the synthetic speakers are: the numbers of their shape and the colours of their surface."""

from dataclasses import dataclass, replace

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Identity:
    """Shape of one head. Lengths are millimetres added to (or, where absolute, of) the base head.

    The base head follows adult head anthropometry: breadth about 150, length 195, pupil distance 63, mouth width 51,
    pupil line to chin 115.
    """

    jaw_width: float = -1.5
    chin: float = -1.0
    nose_width: float = -0.5
    nose_length: float = -0.5
    lip_fullness: float = 1.0  # factor on the height and roundness of both lips
    brow_ridge: float = 0.5  # factor
    cheek: float = 0.5
    face_length: float = -1.0
    eye_opening: float = 1.08  # factor on the height of the lid aperture
    eye_width: float = 1.02  # factor on its width
    eye_offset: float = 31.5  # half the distance of the pupils
    mouth_half_width: float = 25.5
    neck_radius: float = 43.0
    larynx: float = -3.0  # how far the larynx stands out
    shoulders: float = 0.95  # factor on the shoulder width
    hair: str = "none"  # "none", "short" or "long"


@dataclass(frozen=True)
class Look:
    """Colours (linear RGB reflectance) and strengths of the surface of one speaker."""

    skin: Colour
    lips: Colour
    brows: Colour
    hair: Colour
    iris: Colour
    cloth: Colour
    beard: float
    brow_thickness: float
    brow_density: float
    lashes: float
    room: int


GENERIC = Identity()

MALE = Identity(
    jaw_width=-2.0,
    chin=0.5,
    nose_width=0.0,
    nose_length=0.0,
    lip_fullness=0.88,
    brow_ridge=0.9,
    cheek=0.0,
    face_length=0.0,
    eye_opening=1.02,
    eye_width=1.02,
    neck_radius=44.5,
    larynx=0.0,
    shoulders=1.0,
    hair="short",
)
FEMALE = replace(
    MALE,
    jaw_width=-5.0,
    chin=-3.0,
    nose_width=-1.6,
    nose_length=-1.5,
    lip_fullness=1.12,
    brow_ridge=0.1,
    cheek=1.0,
    face_length=-4.0,
    eye_opening=1.12,
    eye_width=1.05,
    neck_radius=38.0,
    larynx=-6.0,
    shoulders=0.88,
    hair="long",
)

MALE_LOOK = Look(
    skin=(0.57, 0.335, 0.235),
    lips=(0.45, 0.17, 0.145),
    brows=(0.045, 0.028, 0.018),
    hair=(0.058, 0.031, 0.017),
    iris=(0.16, 0.26, 0.34),
    cloth=(0.045, 0.075, 0.13),
    beard=0.55,
    brow_thickness=1.1,
    brow_density=0.95,
    lashes=0.8,
    room=0,
)
FEMALE_LOOK = Look(
    skin=(0.64, 0.385, 0.28),
    lips=(0.50, 0.16, 0.155),
    brows=(0.085, 0.045, 0.026),
    hair=(0.120, 0.052, 0.021),
    iris=(0.26, 0.17, 0.08),
    cloth=(0.30, 0.10, 0.10),
    beard=0.0,
    brow_thickness=0.78,
    brow_density=0.85,
    lashes=1.0,
    room=1,
)

SPEAKERS: dict[str, tuple[Identity, Look]] = {"male": (MALE, MALE_LOOK), "female": (FEMALE, FEMALE_LOOK)}
