"""Numbers that every rasteriser shares; they are those of gsplat 1.5, so that a scene looks the same on CPU and GPU."""

NEAR_PLANE = 0.01
"""Metres. A Gaussian whose centre is closer than this, or behind the camera, is not drawn."""

BLUR = 0.3
"""Square pixels added to both variances of a projected Gaussian: no Gaussian is thinner than about a pixel."""

ALPHA_MIN = 1.0 / 255.0
"""A Gaussian adds nothing to a pixel where its alpha is below one step of an 8-bit image."""

ALPHA_MAX = 0.999
"""Alpha is capped here (gradient zero above), so that the transmittance can be undone by division in the backward."""

TRANSMITTANCE_MIN = 1e-4
"""The Gaussian that would take a pixel's transmittance to or below this, and all behind it, are not drawn there."""

FRUSTUM_MARGIN = 0.3
"""The tangents in the projection's Jacobian are clamped this fraction of half a frame beyond the image border
(the linear approximation breaks down further out; Zwicker et al., EWA Splatting, 2002)."""

EXTENT_MAX = 3.33
"""Standard deviations: no Gaussian reaches further (an opaque one meets `ALPHA_MIN` at 3.329)."""

SIGMA_MAX = 1e9
"""Pixels. A Gaussian with a wider projection is not drawn: its determinant would overflow float32."""
