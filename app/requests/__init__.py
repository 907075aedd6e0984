"""A request's way to its endpoint: the route, admission, the body and the images in it."""
