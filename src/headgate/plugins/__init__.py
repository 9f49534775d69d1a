"""The bundled plugins: ordinary plugins on the PDK, one module each (a package when it needs more than one file).

A module offers `Handler`; its name with dashes is the plugin's name. Nothing else of the gateway imports from here.
"""
