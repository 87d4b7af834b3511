"""Small helpers without knowledge of the domain: files, devices, text, probabilities, optional imports."""
