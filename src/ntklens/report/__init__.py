"""A Record rendered as one offline HTML page."""
