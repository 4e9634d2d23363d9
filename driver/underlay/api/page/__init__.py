"""The status page: what is on record, as HTML and a picture, without any script."""
