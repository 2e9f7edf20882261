"""Methods: one file each, with its networks, its phases as data and how it composes an image."""
