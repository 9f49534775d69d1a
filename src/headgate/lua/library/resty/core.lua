-- resty.core: what it replaces is how things are here.
return { version = "0.1.29" }
