-- Sends the request that the file named on wrk's command line holds.
function init(arguments)
   local file = assert(io.open(arguments[1], "rb"))
   prepared = file:read("*a")
   file:close()
end

function request()
   return prepared
end
