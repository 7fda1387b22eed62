"""A device in a house: what its camera sees is told to an MQTT broker, and commands are taken from there.

`broker`: the connection; `discovery`: how Home Assistant finds the device; `commands`: what it is told to do; `events`
and `frigate`: the objects that a Frigate has tracked; `dataset`: a folder whose new images become lessons.
"""
