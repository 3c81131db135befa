"""Photos, folders and video: faces are found, followed, scored and written down."""
