// Draws /openapi.json with Swagger UI. No validator: it would be another host.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", validatorUrl: null, deepLinking: true });
