// A picture of every node of the pack, as the frontend draws it: FOLDER gets <node id>.jpg.
//   node pictures.mjs URL CHROMIUM FOLDER
import path from 'node:path'
import { visit } from './page.mjs'

const [url, executablePath, out] = process.argv.slice(2)
const PLACE = { left: 300, top: 150, margin: 14 } // of the node on the canvas, in pixels

// Puts one node on an empty canvas and returns where it is on the page: evaluated in the page.
function show([type, place]) {
  const { app, LiteGraph } = window
  app.graph.clear()
  const node = LiteGraph.createNode(type)
  app.graph.add(node)
  node.pos = [0, 0]
  node.size = [Math.max(node.size[0], 320), node.computeSize()[1]]
  Object.assign(app.canvas.ds, { scale: 1, offset: [place.left, place.top] })
  app.canvas.setDirty(true, true)
  const { left, top } = app.canvas.canvas.getBoundingClientRect()
  const title = LiteGraph.NODE_TITLE_HEIGHT
  return {
    x: left + place.left - place.margin, y: top + place.top - title - place.margin,
    width: node.size[0] + 2 * place.margin, height: node.size[1] + title + 2 * place.margin
  }
}

await visit(url, executablePath, async (page, report) => {
  report.nodes = await page.evaluate(() => Object.keys(window.LiteGraph.registered_node_types).filter((type) => type.startsWith('FusionFrames_')))
  for (const type of report.nodes) {
    const clip = await page.evaluate(show, [type, PLACE])
    await page.waitForTimeout(400)
    await page.screenshot({ path: path.join(out, `${type}.jpg`), type: 'jpeg', quality: 70, clip })
  }
})
