"""The link sheet's four proxies against a reference that the manifest declares."""
