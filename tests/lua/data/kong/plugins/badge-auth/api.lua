local endpoints = require "kong.api.endpoints"

local kong = kong
local badges_schema = kong.db.badges.schema
local consumers_schema = kong.db.consumers.schema

return {
  ["/consumers/:consumers/badges"] = {
    schema = badges_schema,
    methods = {
      GET = endpoints.get_collection_endpoint(badges_schema, consumers_schema, "consumer"),
      POST = endpoints.post_collection_endpoint(badges_schema, consumers_schema, "consumer"),
    },
  },
  ["/badges/:badges/consumer"] = {
    schema = consumers_schema,
    methods = {
      GET = endpoints.get_entity_endpoint(badges_schema, consumers_schema, "consumer"),
    },
  },
  -- Covers an automatic endpoint: codes are not shown whole.
  ["/badges"] = {
    schema = badges_schema,
    methods = {
      GET = function(self, db, helpers, parent)
        return parent(function(badge)
          badge.code = badge.code:sub(1, 3) .. "..."
          return badge
        end)
      end,
    },
  },
  ["/badges/:badges/level/"] = {
    schema = badges_schema,
    methods = {
      before = function(self, db)
        local badge, _, err_t = endpoints.select_entity(self, db, badges_schema)
        if err_t then
          return endpoints.handle_error(err_t)
        elseif not badge then
          return kong.response.exit(404, { message = "no such badge" })
        end
        self.badge = badge
      end,
      GET = function(self)
        return kong.response.exit(200, { level = self.badge.level, by = kong.request.get_header("X-By") })
      end,
      PUT = function(self, db)
        local badge, _, err_t = db.badges:update({ id = self.badge.id }, { level = self.args.post.level })
        if err_t then
          return endpoints.handle_error(err_t)
        end
        return kong.response.exit(200, badge, { ["X-Level"] = badge.level })
      end,
      DELETE = function()
        error("levels stay")
      end,
    },
  },
  ["/badge-count"] = {
    GET = function(self, _, helpers)
      local count = 0
      for badge, err in kong.db.badges:each() do
        if err then
          return kong.response.exit(500, { message = err })
        end
        count = count + 1
      end
      return { status = 200, json = { count = count, asked = self.params.asked } }
    end,
  },
}
