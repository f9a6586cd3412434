"""The page's API: types, endpoints, handlers."""
