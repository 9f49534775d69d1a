-- kong.tools.queue_schema: the field `queue` of plugins.
return require("kong.db.schema.typedefs").queue
